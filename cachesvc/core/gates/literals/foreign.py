"""The commonest number words, months and weekdays of some other languages, but for those that are English words too.

They are not read as grammar, only told apart: "zwei" is not "drei", and both are the number.
"""


def _by_word(rows: str) -> dict[str, int]:
    return {
        word: int(value) for value, *words in (row.split() for row in rows.splitlines()) for word in words
    }


NUMBERS = _by_word(
    """2 zwei deux dois duas twee två
3 drei trois tres tre três drie
4 vier quatre cuatro quattro quatro fyra
5 fünf cinq cinco cinque vijf fem
6 sechs seis sei zes
7 sieben siete sette sete zeven sju
8 acht huit ocho otto oito åtta
9 neun neuf nueve nove negen nio
10 zehn dix diez dieci dez tien tio
11 onze undici elva
12 zwölf douze doce dodici doze twaalf tolv
15 fünfzehn quinze quince quindici vijftien femton
20 zwanzig vingt veinte venti vinte twintig tjugo
30 dreißig dreissig trente treinta trenta trinta dertig
40 vierzig quarante cuarenta quaranta quarenta veertig
50 fünfzig cinquante cincuenta cinquanta cinquenta vijftig
60 sechzig soixante sesenta sessanta sessenta zestig
100 hundert cien ciento cento cem honderd
1000 tausend mille duizend"""
)
MONTHS = _by_word(
    """1 januar janvier enero gennaio janeiro
2 februar février fevrier febrero febbraio fevereiro
3 märz marzo março maart
4 avril abril aprile
5 mai maggio maio
6 juni juin junio giugno junho
7 juli juillet julio luglio julho
8 août agosto
9 septembre septiembre settembre setembro
10 oktober octobre octubre ottobre outubro
11 novembre noviembre novembro
12 dezember décembre diciembre dicembre dezembro"""
)
WEEKDAYS = _by_word(
    """1 montag lundi lunes lunedì maandag
2 dienstag mardi martes martedì dinsdag
3 mittwoch mercredi miércoles miercoles mercoledì woensdag
4 donnerstag jeudi jueves giovedì donderdag
5 freitag vendredi viernes venerdì vrijdag
6 samstag sonnabend samedi sábado sabado sabato zaterdag
7 sonntag dimanche domingo domenica zondag"""
)
DAYS = {
    "demain": "tomorrow",
    "mañana": "tomorrow",
    "domani": "tomorrow",
    "amanhã": "tomorrow",
    "gestern": "yesterday",
    "ayer": "yesterday",
    "ieri": "yesterday",
    "ontem": "yesterday",
}
