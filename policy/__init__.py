"""Who calls and what they may do: one rule that the edge and every service keep.

Transport-free; knows neither the edge nor the services.
"""
