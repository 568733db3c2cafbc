"""What a site asks of programs that read it."""

from __future__ import annotations

from urllib.robotparser import RobotFileParser

LONGEST_DELAY = 60.0


def crawl_delay(text: str, user_agent: str) -> float:
    r"""Return the seconds that ``robots.txt`` wants between two requests, 0 if it does not say; at most a minute.

    Examples
    --------
    >>> crawl_delay("User-agent: *\nCrawl-delay: 10", "scraperkit")
    10.0
    """
    rules = RobotFileParser()
    rules.parse(text.splitlines())
    try:
        return min(LONGEST_DELAY, max(0.0, float(rules.crawl_delay(user_agent) or 0)))
    except (TypeError, ValueError):
        return 0.0
