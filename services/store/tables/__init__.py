"""A store over a small protocol of tables, which even a database without SQL can implement."""
