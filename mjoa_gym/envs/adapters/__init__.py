"""Adapters for libraries that do not accept Gymnasium's vector environments directly.

Each module needs the library that it is named after. Importing this package needs none of them.
"""
