"""Networks, all with one signature: net(x, t, y) -> like x."""
