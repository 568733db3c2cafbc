"""The portal's registry as bytes: funds, classes and subclasses in one zip, and the funds without a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from scraperkit.cnpj import format_cnpj, normalize_cnpj
from scraperkit.replica.open_data import DailyRow
from scraperkit.replica.portal_files import as_csv

FUND_HEADER = (
    "ID_Registro_Fundo;CNPJ_Fundo;Codigo_CVM;Data_Registro;Data_Constituicao;Tipo_Fundo;Denominacao_Social;"
    "Data_Cancelamento;Situacao;Data_Inicio_Situacao;Data_Adaptacao_RCVM175;Data_Inicio_Exercicio_Social;"
    "Data_Fim_Exercicio_Social;Patrimonio_Liquido;Data_Patrimonio_Liquido;Diretor;CNPJ_Administrador;Administrador;"
    "Tipo_Pessoa_Gestor;CPF_CNPJ_Gestor;Gestor"
)
CLASS_HEADER = (
    "ID_Registro_Fundo;ID_Registro_Classe;CNPJ_Classe;Codigo_CVM;Data_Registro;Data_Constituicao;Data_Inicio;"
    "Tipo_Classe;Denominacao_Social;Situacao;Data_Inicio_Situacao;Classificacao;Indicador_Desempenho;Classe_Cotas;"
    "Classificacao_Anbima;Tributacao_Longo_Prazo;Entidade_Investimento;Permitido_Aplicacao_CemPorCento_Exterior;"
    "Classe_ESG;Forma_Condominio;Exclusivo;Publico_Alvo;Patrimonio_Liquido;Data_Patrimonio_Liquido;CNPJ_Auditor;"
    "Auditor;CNPJ_Custodiante;Custodiante;CNPJ_Controlador;Controlador"
)
SUBCLASS_HEADER = (
    "ID_Registro_Classe;ID_Subclasse;Codigo_CVM;Data_Constituicao;Data_Inicio;Denominacao_Social;Situacao;"
    "Data_Inicio_Situacao;Forma_Condominio;Exclusivo;Publico_Alvo;Previdenciario;Exclusivo_INR;"
    "Exclusivo_Previdencia_Complementar"
)
OLD_HEADER = (
    "TP_FUNDO;CNPJ_FUNDO;DENOM_SOCIAL;DT_REG;DT_CONST;CD_CVM;DT_CANCEL;SIT;DT_INI_SIT;DT_INI_ATIV;DT_INI_EXERC;"
    "DT_FIM_EXERC;CLASSE;DT_INI_CLASSE;RENTAB_FUNDO;CONDOM;FUNDO_COTAS;FUNDO_EXCLUSIVO;TRIB_LPRAZO;PUBLICO_ALVO;"
    "ENTID_INVEST;TAXA_PERFM;INF_TAXA_PERFM;TAXA_ADM;INF_TAXA_ADM;VL_PATRIM_LIQ;DT_PATRIM_LIQ;DIRETOR;CNPJ_ADMIN;"
    "ADMIN;PF_PJ_GESTOR;CPF_CNPJ_GESTOR;GESTOR;CNPJ_AUDITOR;AUDITOR;CNPJ_CUSTODIANTE;CUSTODIANTE;CNPJ_CONTROLADOR;"
    "CONTROLADOR;INVEST_CEMPR_EXTER;CLASSE_ANBIMA"
)
_STATUS = {
    "EM FUNCIONAMENTO NORMAL": "Em Funcionamento Normal",
    "CANCELADA": "Cancelado",
    "LIQUIDAÇÃO": "Em Liquidação",
}
_NORMAL = _STATUS["EM FUNCIONAMENTO NORMAL"]
Row = Mapping[str, str]
Months = Mapping[str, tuple[DailyRow, ...]]
Worth = Mapping[str, tuple[str, str]]


def registry_members(registry: Sequence[Row], subclasses: Sequence[Row], months: Months) -> dict[str, bytes]:
    """Return the three members of ``registro_fundo_classe.zip``, with CNPJs unpunctuated.

    A fund has one row for each manager. Funds that never became a class are missing. A class's ``Data_Inicio`` is the
    day on which it became one; the fund's age follows from its ``Data_Constituicao``.

    Parameters
    ----------
    registry, subclasses : sequence of mapping
        The rows of ``registry.csv`` and ``subclasses.csv``.
    months : mapping of str to tuple of DailyRow
        All daily rows; the newest of each CNPJ gives its net worth.
    """
    worth = _net_worth(months)
    classes = [row for row in registry if row["class_id"]]
    ids = {row["cnpj"]: row["class_id"] for row in classes}
    # A fund of two classes would otherwise be listed twice.
    fund_lines = dict.fromkeys(line for row in classes for line in _fund_lines(row, worth))
    return {
        "registro_fundo.csv": as_csv(FUND_HEADER, fund_lines),
        "registro_classe.csv": as_csv(CLASS_HEADER, (_class_line(row, worth) for row in classes)),
        "registro_subclasse.csv": as_csv(
            SUBCLASS_HEADER, (_subclass_line(row, ids[row["cnpj"]]) for row in subclasses)
        ),
    }


def old_registry(registry: Sequence[Row], months: Months) -> bytes:
    """Return ``cad_fi.csv``: the funds that never became a class, with CNPJs punctuated."""
    worth = _net_worth(months)
    return as_csv(OLD_HEADER, (_old_line(row, worth) for row in registry if not row["class_id"]))


def _fund_lines(row: Row, worth: Worth) -> Iterator[str]:
    value, day = worth.get(row["fund_cnpj"], ("", ""))
    for cnpj, manager in zip(row["manager_cnpjs"].split("|"), row["managers"].split("|"), strict=True):
        yield _cells(
            FUND_HEADER,
            ID_Registro_Fundo=row["fund_id"],
            CNPJ_Fundo=row["fund_cnpj"],
            Codigo_CVM=_code(row["fund_id"]),
            Data_Registro=row["started_on"],
            Data_Constituicao=row["started_on"],
            Tipo_Fundo="FIF" if row["started_on"] == row["adapted_on"] else row["kind"],
            Denominacao_Social=row["fund_name"].upper(),
            Data_Cancelamento=row["ended_on"],
            Situacao=_STATUS[row["status"]],
            Data_Inicio_Situacao=row["ended_on"] or row["started_on"],
            Data_Adaptacao_RCVM175=row["adapted_on"],
            Patrimonio_Liquido=value,
            Data_Patrimonio_Liquido=day,
            CNPJ_Administrador=row["administrator_cnpj"],
            Administrador=row["administrator"],
            Tipo_Pessoa_Gestor="PJ",
            CPF_CNPJ_Gestor=cnpj,
            Gestor=manager,
        )


def _class_line(row: Row, worth: Worth) -> str:
    value, day = worth.get(row["cnpj"], ("", ""))
    return _cells(
        CLASS_HEADER,
        ID_Registro_Fundo=row["fund_id"],
        ID_Registro_Classe=row["class_id"],
        CNPJ_Classe=row["cnpj"],
        Codigo_CVM=_code(row["class_id"]),
        Data_Registro=row["adapted_on"],
        Data_Constituicao=row["adapted_on"],
        Data_Inicio=row["adapted_on"],
        Tipo_Classe="Classes de Cotas de Fundos FIF",
        Denominacao_Social=row["name"].upper(),
        Situacao=_STATUS[row["status"]],
        Data_Inicio_Situacao=row["ended_on"] or row["adapted_on"],
        Classificacao=row["classification"],
        Classe_Cotas="S" if "FIC" in row["name"] else "N",
        Tributacao_Longo_Prazo="S",
        Permitido_Aplicacao_CemPorCento_Exterior="N",
        Classe_ESG="N",
        Forma_Condominio="Aberto",
        Exclusivo="S" if "Exclusivo" in row["name"] else "N",
        Publico_Alvo="Público Geral",
        Patrimonio_Liquido=value,
        Data_Patrimonio_Liquido=day,
        CNPJ_Custodiante=row["administrator_cnpj"],
        Custodiante=row["administrator"],
        CNPJ_Controlador=row["administrator_cnpj"],
        Controlador=row["administrator"],
    )


def _subclass_line(row: Row, class_id: str) -> str:
    return _cells(
        SUBCLASS_HEADER,
        ID_Registro_Classe=class_id,
        ID_Subclasse=row["subclass"],
        Codigo_CVM=_code(row["subclass"][5:]),
        Data_Constituicao=row["started_on"],
        Data_Inicio=row["started_on"],
        Denominacao_Social=row["name"].upper(),
        Situacao=_NORMAL,
        Data_Inicio_Situacao=row["started_on"],
        Forma_Condominio="Aberto",
        Exclusivo="N",
        Publico_Alvo="Público Geral",
        Previdenciario="N",
        Exclusivo_INR="N",
        Exclusivo_Previdencia_Complementar="N",
    )


def _old_line(row: Row, worth: Worth) -> str:
    value, day = worth.get(row["cnpj"], ("", ""))
    (manager_cnpj, *_), (manager, *_) = row["manager_cnpjs"].split("|"), row["managers"].split("|")
    return _cells(
        OLD_HEADER,
        TP_FUNDO=row["kind"],
        CNPJ_FUNDO=format_cnpj(row["cnpj"]),
        DENOM_SOCIAL=row["name"].upper(),
        DT_REG=row["started_on"],
        DT_CONST=row["started_on"],
        CD_CVM=_code(row["cnpj"][:8]),
        DT_CANCEL=row["ended_on"] if row["status"] == "CANCELADA" else "",
        SIT=row["status"],
        DT_INI_SIT=row["ended_on"] or row["started_on"],
        DT_INI_ATIV=row["started_on"],
        CLASSE=row["classification"],
        DT_INI_CLASSE=row["started_on"],
        CONDOM="Aberto",
        FUNDO_COTAS="S" if "FIC" in row["name"] else "N",
        FUNDO_EXCLUSIVO="N",
        TRIB_LPRAZO="S",
        PUBLICO_ALVO="Público Geral",
        VL_PATRIM_LIQ=value,
        DT_PATRIM_LIQ=day,
        CNPJ_ADMIN=format_cnpj(row["administrator_cnpj"]),
        ADMIN=row["administrator"],
        PF_PJ_GESTOR="PJ",
        CPF_CNPJ_GESTOR=format_cnpj(manager_cnpj),
        GESTOR=manager,
        CNPJ_CUSTODIANTE=format_cnpj(row["administrator_cnpj"]),
        CUSTODIANTE=row["administrator"],
        INVEST_CEMPR_EXTER="N",
    )


def _cells(header: str, **cells: str) -> str:
    columns = header.split(";")
    unknown = cells.keys() - columns
    if unknown:
        raise ValueError(f"no such column: {', '.join(sorted(unknown))}")
    return ";".join(cells.get(column, "") for column in columns)


def _code(text: str) -> str:
    """Return an invented code of the regulator's."""
    return str(int("".join(filter(str.isdigit, text))) % 400_000 + 1)


def _net_worth(months: Months) -> dict[str, tuple[str, str]]:
    """Return each CNPJ's newest net worth, the sum of its subclasses, and its day."""
    sums: dict[tuple[str, str], float] = {}
    for rows in months.values():
        for row in rows:
            key = normalize_cnpj(row.cnpj), row.date
            sums[key] = sums.get(key, 0.0) + float(row.net_worth or 0)
    return {cnpj: (f"{value:.2f}", day) for (cnpj, day), value in sorted(sums.items())}
