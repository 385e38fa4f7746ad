"""Endless noise instead of a result."""
import os

while True:
    os.write(1, b'\x00\xff\x1b[2J{"score": 1000}\n' * 100)
