"""Documents as text: for the command line and for the main's own doors alike. Pure.

- cells: how wide a text is on a terminal, how it is cut, and that nothing in it moves the cursor
- tables: tables and lists of pairs that fit a width
- columns: what stands in the tables; `documents`: one task, device or status as pairs
- device_facts: what a device is and how it does, in words
- figures: bars, gauges and courses drawn in cells; `grid`: devices beside each other
- plain_ascii: the same where a terminal knows ASCII alone
- styles: which words are coloured, and how, by theme
- views: an answer as a value (rows, pairs, lines), and that value as table, json, csv or tsv
- output_text: what a task printed, on its way to a terminal
"""
