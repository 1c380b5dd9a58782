"""The decisions of zpipe: no socket, thread, sleep, log or clock in here; `now` comes in as an argument."""
