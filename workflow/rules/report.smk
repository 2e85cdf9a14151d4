rule make_report:
    output:
        touch("reports/report.html"),
