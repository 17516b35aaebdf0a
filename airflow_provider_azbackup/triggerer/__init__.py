"""The waits of a triggerer: their shared reads, watches and progress."""
