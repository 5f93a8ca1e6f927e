"""What survives: one SQLite database in the data folder of the main.

===========  =============================================================================
schema/      the tables, as commented .sql files; one file a version
migrations   opens a database and brings it to the newest version
rows         objects of the scheduler to rows and back
writes       the one transaction that puts a turn on disk
reads        what the doors read: tasks, attempts, results, events
database     adbapi pools, pragmas, the lock on the data folder
===========  =============================================================================

Functions whose name ends in `_txn` run in a database thread, with a cursor, inside a transaction.
"""
