"""The simulated reserve: fixed cameras over a marsh with articulated cranes, and the exact truth about them."""
