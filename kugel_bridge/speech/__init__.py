"""Where sound comes from: cache, cloud, local engine, and the ladder over them."""
