"""One job for one intent: find the one that was started, or start one."""
