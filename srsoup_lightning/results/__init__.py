"""Finished soups: their pictures, their files, and their view in a notebook."""
