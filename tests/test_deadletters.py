"""Dead letters: list, retry, drop."""

from __future__ import annotations

import json

import pytest
from support.fakes import FakeSite, months, one_quote
from support.workers import AT_ONCE, step

from scraperkit.config import Settings
from scraperkit.deadletters import DeadLetters
from scraperkit.engine.worker import Worker
from scraperkit.errors import ConfigError, PageChanged
from scraperkit.keys import Keys
from scraperkit.publisher import Publisher


@pytest.fixture
def letters(redis, namespace):
    return DeadLetters(redis, namespace=namespace)


@pytest.fixture
def work(redis, namespace):
    def work(respond=one_quote, **settings):
        given = Settings.load(namespace=namespace, **{**AT_ONCE, **settings})
        return step(Worker(redis, FakeSite(respond), settings=given))

    return work


def changed(_):
    raise PageChanged("no heading 'Quota (R$)'", "http://site/page")


@pytest.fixture
def batch(redis, namespace, work):
    """Return a batch of two months, the first a dead letter."""
    batch = Publisher(redis, namespace=namespace).publish(months(2))
    work(lambda request: changed(request) if request.month == 1 else one_quote(request))
    return batch


def test_a_letter_has_the_message_and_its_errors(letters, batch):
    (row,) = letters.list().to_dict("records")
    assert (row["cnpj"], row["month"], row["attempts"]) == ("18993924000100", "01/2021", 1)
    assert row["error"] == "PageChanged: no heading 'Quota (R$)' [http://site/page]"
    assert json.loads(row["message"])["batch_id"] == batch.id
    (attempt,) = letters.history(letters.list().index[0])
    assert json.loads(attempt)["error"] == row["error"]
    assert repr(letters).endswith(": 1>")


def test_a_retried_letter_is_done_and_counted_in_its_batch(letters, batch, work):
    assert letters.retry() == 1
    assert len(letters) == 0
    assert str(batch.status()) == "2 published, 1 done, 1 pending"
    assert work() == {"done": 1}
    assert str(batch.status()) == "2 published, 2 done"


def test_the_attempts_of_a_retried_letter_start_at_zero(letters, batch, work):
    letters.retry(letters.list().index[0])
    assert work(lambda _: int("?")) == {"retry": 1}


def test_an_invalid_letter_can_be_retried_and_dies_again(redis, namespace, letters, work):
    redis.xadd(Keys(namespace).jobs, {"message": "rubbish"})
    work()
    assert letters.list()["cnpj"].tolist() == [""]
    assert letters.retry() == 1
    assert work() == {"dead": 1}


def test_dropped_letters_are_gone(letters, batch):
    assert letters.drop(list(letters.list().index)) == 1
    assert letters.list().empty
    assert letters.drop() == 0


def test_an_unknown_id_is_named_and_nothing_is_done(letters, batch):
    known = letters.list().index[0]
    for act in (letters.retry, letters.drop):
        with pytest.raises(ConfigError, match="'1-1'"):
            act([known, "1-1"])
    with pytest.raises(ConfigError, match="no id"):
        letters.history("no id")
    assert len(letters) == 1


def test_without_letters_the_frame_is_empty_with_the_same_dtypes(letters, batch):
    full = letters.list()
    letters.drop()
    assert (letters.list().dtypes == full.dtypes).all()
