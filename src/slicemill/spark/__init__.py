"""Sessions and partitions. The only room that imports pyspark."""
