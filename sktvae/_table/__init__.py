"""The user's table <-> plain columns: containers, dtypes, Python objects, kinds of column.

A plain column is a float64 array with NaN where a value is missing (numbers and times), or a
Series of hashable values (categories). Nothing about the distribution of the data is known here.
"""
