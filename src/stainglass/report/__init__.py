"""The report: one self-contained HTML page of a run. `stainglass.report.page.write_report` writes it."""
