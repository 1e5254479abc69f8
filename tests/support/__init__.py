"""What several folders of tests share: small models, feedback, runs, servers and the answers they give."""
