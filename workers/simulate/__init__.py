"""The simulated reserve: fixed cameras over marshes with articulated cranes, and the exact truth of them."""
