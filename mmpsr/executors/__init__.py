"""Executors by name: who does work that is given away in jobs, and how many do at present.

    local                     processes of this machine, which whoever asks for them starts
    dask://host:port          the workers of a Dask cluster, by the address of its scheduler
    package.module:factory    whatever `concurrent.futures.Executor` the function gives

The process that asks keeps the books: it alone hands out jobs and stores what comes back. Jobs of elsewhere run in the
folder that it runs in, which all machines have to see, and one after another in each process: what computes here is not
made for several threads.

`open_engine` of `build.py` makes an `Engine` (`base.py`) of a name.
"""
