"""Base models: where they come from, their random stand-ins, and the cache of converted files."""
