"""Plain columns <-> codes: column summaries, codecs, relations, routing, `TableEncoder`.

Nothing is known here about dtypes or containers, which are the business of `_table`, or about
networks. The heads in `sktvae._heads` are all that the model learns about the codes.
"""
