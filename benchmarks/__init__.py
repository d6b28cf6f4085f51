"""kugel-bridge's figures: each module measures one thing, `scripts/bench` runs them all."""
