"""The one table of commands, and the grammar of a command line. Pure: text goes in, values and errors come out.

What the terminal in the browser, `POST /api/v1/command`, `retire-cluster`, their completion, their help and the
documentation know about commands comes from here.

- model: what a command, an argument, an option and a group are; `kinds` are what arguments may be
- table: every command, put together from cluster_table, device_table, task_table and local_table
- task_options: the options of `submit`, one for each field of a task
- words: a line as words, with quotes and `|`; `grammar`: words as a command with its values
- selectors: `last`, `all`, `1-10`, and ids by their beginning
- filters: grep, head, tail, sort, wc and cut on lines of text; `patterns`: regular expressions in linear time
- completion: what may stand at the cursor; `scripts`: the completion of bash, zsh and fish
- help: the table as text
"""
