"""What a streamed token costs at the edge, beside other ways of building one."""
