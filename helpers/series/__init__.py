"""The notebooks as a series: started alike, run in order, refreshed and reported."""
