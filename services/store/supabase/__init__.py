"""The store over Supabase: Auth, the API and Postgres. The only package that knows supabase-py, PostgREST and httpx."""
