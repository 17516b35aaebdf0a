"""One verdict about many protected items in many vaults."""

# The key of the XCom that holds a verdict, and of the same in events. Here, because parsing a DAG loads it.
VERDICT = "verdict"
