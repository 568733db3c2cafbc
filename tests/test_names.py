"""Short names of funds: readable, short and unique."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scraperkit.cnpj import (
    SHORT_NAME,
    format_cnpj,
    is_shown_as,
    may_be_short,
    nearest_names,
    short_name,
    short_names,
    telling_words,
    without_accents,
)
from scraperkit.models import Fund
from scraperkit.replica.sample import load_sample

REAL_STYLE = {
    "ITAÚ SOBERANO RENDA FIXA SIMPLES LONGO PRAZO FUNDO DE INVESTIMENTO FINANCEIRO EM COTAS DE FUNDOS DE INVESTIMENTO"
    " RESPONSABILIDADE LIMITADA": "Itaú Soberano RF Simples LP",
    "BB AÇÕES DIVIDENDOS CLASSE DE INVESTIMENTO EM COTAS DE FUNDOS DE INVESTIMENTO - RESP LIMITADA": (
        "BB Ações Dividendos"
    ),
    "CAIXA FUNDO DE INVESTIMENTO EM AÇÕES MULTIGESTOR": "Caixa Ações Multigestor",
    "XP INVESTOR FUNDO DE INVESTIMENTO DE AÇÕES": "XP Investor Ações",
    "VERDE AM 60 FIC DE FI MULTIMERCADO": "Verde AM 60 Multi",
    "AROEIRA IMA-B 5+ FUNDO DE INVESTIMENTO RENDA FIXA REFERENCIADO": "Aroeira IMA-B 5+ RF Ref",
    "CLASSE ÚNICA DE COTAS DO PAU-FERRO FIC FIF AÇÕES - RL": "Pau-Ferro Ações",
    "Fundo Exemplo Jatobá Multimercado FIM": "Exemplo Jatobá Multi",
    "BANCO DO BRASIL S.A. FUNDO DE INVESTIMENTO": "Banco do Brasil S.A.",
    "EXEMPLO FUNDO DE INVESTIMENTO EM DIREITOS CREDITÓRIOS": "Exemplo FIDC",
    "FUNDO DE INVESTIMENTO MULTIMERCADO CRÉDITO PRIVADO": "Multi CP",
    "FUNDO DE INVESTIMENTO": "Fundo de Investimento",
    "MASSARANDUBA DÍVIDA EXTERNA DE PAÍSES EMERGENTES FIM": "Massaranduba Dívida Externa…",
    "SUPERCALIFRAGILISTICEXPIALIDOCIOUS": "Supercalifragilisticexpiali…",
    "A\x1b[2JB\nFIM": r"A\x1b[2JB Multi",
    "  ": "",
}


@pytest.mark.parametrize("name", REAL_STYLE)
def test_the_legal_form_is_dropped_and_the_strategy_is_abbreviated(name):
    assert short_name(name) == REAL_STYLE[name]


def test_a_fund_without_a_name_is_shown_by_its_number():
    assert Fund("18993924000100", name="AROEIRA FIA").short_name == "Aroeira Ações"
    assert Fund("18993924000100").short_name == Fund("18993924000100", name=" ").short_name == "18.993.924/0001-00"


def test_the_short_names_of_the_sample_are_unique():
    names = {fund.cnpj: fund.name for fund in load_sample().funds}
    short = short_names(names)
    assert len(set(short.values())) == len(names)
    assert max(map(len, short.values())) <= SHORT_NAME
    # No two funds of the sample need their numbers.
    assert not [label for label in short.values() if "/" in label]


@given(st.lists(st.text(alphabet="AÇ FIM\x85-$_/.…0124839", max_size=60), min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_short_names_are_unique_for_any_names(names):
    series = [f"{number:08d}0001{number:02d}" for number in range(len(names))]
    series += [f"{series[0]}:SUB{number}" for number in range(len(names))]
    known = dict(zip(series, names + names, strict=True))
    short = short_names(known)
    assert len(set(short.values())) == len(short)
    assert set(short) == {one for one, name in known.items() if name.strip()}
    for one, label in short.items():
        assert label.isprintable()
        assert len(label) <= SHORT_NAME or label.endswith((format_cnpj(one[:14]), one.partition(":")[2]))


def test_equal_names_end_with_the_cnpj_and_subclasses_with_their_id():
    twins = {
        "18993924000100": "AROEIRA MASTER LONGO PRAZO DIVIDENDOS FIA",
        "99101011000125": "Aroeira Master LP Dividendos FIA",
    }
    assert list(short_names(twins).values()) == ["Aroeira Master… 924/0001-00", "Aroeira Master… 011/0001-25"]
    fund = "18993924000100"
    series = dict.fromkeys((fund, f"{fund}:Z2HFZ1734468953", f"{fund}:AAA", "00039924000100"), "Aroeira")
    assert list(short_names(series).values()) == [
        "Aroeira 18.993.924/0001-00", "Aroeira …34468953", "Aroeira …AAA", "Aroeira 00.039.924/0001-00"
    ]  # fmt: skip


def test_the_nearest_names_come_first():
    names = ["Fundo Ipê Roxo", "Fundo Aroeira", "FUNDO IPÊ-AMARELO", "Ipe Amarelo"]
    assert nearest_names("ipê amarelo", names) == [3, 2, 0, 1]
    assert nearest_names("x", [], 3) == []


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("FUNDO CANELA-DE-EMA FIDC", "Canela-de-Ema FIDC"),
        ("Fundo Canela-DE-Ema FIDC", "Canela-de-Ema FIDC"),
        ("Fundo Copo-De-Leite FIA", "Copo-de-Leite Ações"),
        ("FUNDO MATA-DA-SERRA-E-MAR FIM", "Mata-da-Serra-e-Mar Multi"),
        ("FUNDO PAU-DO-BRASIL DOS SANTOS FIM", "Pau-do-Brasil dos Santos"),
        ("AROEIRA IMA-E FIM", "Aroeira IMA-E Multi"),
    ],
)
def test_particles_after_hyphens_are_lower_case(name, short):
    assert short_name(name).startswith(short)


FUNDS = {
    "18993924000100": "FUNDO AROEIRA FIC FIA",
    "99101011000125": "AROEIRA FIA",
    "99101012000170": "FUNDO EXEMPLO AÇAÍ-JUÇARA PREVIDÊNCIA AÇÕES FIA RESPONSABILIDADE LIMITADA",
    "99101012000170:Z2HFZ1734468953": "FUNDO EXEMPLO AÇAÍ-JUÇARA PREVIDÊNCIA AÇÕES FIA RESPONSABILIDADE LIMITADA",
    "99101013000114": "IPÊ AMARELO FUNDO DE INVESTIMENTO RENDA FIXA CRÉDITO PRIVADO LONGO PRAZO",
}


@pytest.mark.parametrize("width", [18, 28, 60])
def test_a_shown_name_identifies_its_fund(width):
    for series, shown in short_names(FUNDS, width).items():
        assert [each for each, name in FUNDS.items() if is_shown_as(name, shown, each)] == [series], shown
        assert may_be_short(shown)
        assert all(
            without_accents(word).lower() in without_accents(FUNDS[series]).lower() for word in telling_words(shown)
        )
