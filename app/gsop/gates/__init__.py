"""Gates as data: what an answer holds, what is remembered of it, and its picture. No torch."""
