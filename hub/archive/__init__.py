"""The archive: event logs become Parquet files, `kind=/venue=/symbol=/date=/<first id>_<last id>.parquet`.

| module | |
|---|---|
| schema.py | messages to Arrow tables |
| files.py | names, atomic writing, what is archived already |
| compact.py | many small files of a date become few |
| tail.py | one channel: what was read of its log and is not in a file yet |
| process.py | the process: reads the logs, writes files in time |
"""
