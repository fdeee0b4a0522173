#!/usr/bin/env python3
"""Runs a ClickHouse server, HTTP only, out of libchdb.so.

usage: serve.py LIBRARY [options of clickhouse-local: --path DIR --http_port N --config-file FILE ...]

Ends when its standard input closes, so that it never outlives the test that started it, or on SIGTERM; with
REMOVE=DIR in the environment that directory goes with it.
"""
import ctypes
import os
import shutil
import signal
import sys
import threading

library = ctypes.CDLL(sys.argv[1])
run = library.chdb_query_cmdline
run.restype = ctypes.c_void_p
run.argtypes = [ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
result_error = library.chdb_result_error
result_error.restype = ctypes.c_char_p
result_error.argtypes = [ctypes.c_void_p]

# One row a block and one thread: sleeps for three years, and the listener stays open meanwhile.
QUERY = """
SYSTEM START LISTEN HTTP;
SELECT sleep(1) FROM numbers(100000000) FORMAT Null
SETTINGS max_block_size = 1, max_threads = 1, max_execution_time = 0
"""


def end(status):
    if os.environ.get("REMOVE"):
        shutil.rmtree(os.environ["REMOVE"], ignore_errors=True)
    os._exit(status)


def engine():
    arguments = [b"clickhouse-local"] + [a.encode() for a in sys.argv[2:]] + [b"--query", QUERY.encode()]
    result = run(len(arguments), (ctypes.c_char_p * (len(arguments) + 1))(*arguments, None))
    error = result_error(result) if result else b"no result"
    print("the engine ended:", error.decode() if error else "no error", file=sys.stderr, flush=True)
    end(1)


threading.Thread(target=engine, daemon=True).start()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: end(0))
while os.read(0, 4096):
    pass
end(0)
