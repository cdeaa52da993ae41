"""Foreign REST shapes, one package each: `routes`, `schema`, `translate`.

A dialect translates to and from the generated protos and knows no other dialect.
"""
