"""Bridges to libraries that do not take Gymnasium's vector environments as they are.

Each module needs the library it is named after; importing this package needs none of them.
"""
