"""The pages: one module a screen. Running one of these files by itself draws nothing."""
