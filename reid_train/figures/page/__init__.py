"""The HTML report: one file per section, each with its template beside it in ``templates``."""
