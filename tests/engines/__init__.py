"""The two database engines that the registry is tested on: files of SQLite, and a real PostgreSQL for the run.

``server`` starts a PostgreSQL under a process that outlives no run, ``databases`` makes one database for each test,
and ``fixtures`` gives both to the tests and says what was skipped.
"""
