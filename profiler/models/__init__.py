"""Base models: sources, random substitutes, and the cache of converted files."""
