"""A store over a small protocol of tables, which a database without SQL can implement."""
