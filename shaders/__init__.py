"""The decoder for engines: one Slang source, its translations, and the specialised shader of one material."""
