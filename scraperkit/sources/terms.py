"""Whom the figures are by, under what licence, and what to know before one believes them."""

from __future__ import annotations

from scraperkit.config import Settings

ATTRIBUTION = "Comissão de Valores Mobiliários (CVM), dados.cvm.gov.br, under the Open Database License (ODbL) 1.0"
INVENTED = "invented figures of the offline replica"
WARNINGS = (
    "Only classes of FIF and FAPI are in it: no FII, FIDC or FIP; before 2005 only equity-type funds.",
    "Cancelled funds stay in, but a list of those active today is biased towards survivors.",
    "A quota is net of fees, and not adjusted for distributions. Come-cotas, a tax, takes quotas away and leaves their "
    "price.",
    "Summed net worth double-counts what funds of funds (FIC) hold, about 35 %.",
    "Values are the latest revision; those of the newest five business days are provisional.",
)


def attribution() -> str:
    """Return whom the figures of the portal in use are by, and their licence."""
    return INVENTED if Settings.load().offline else ATTRIBUTION
