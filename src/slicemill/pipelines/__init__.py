"""One `run(config, spark)` per verb: choices and wiring only."""
