"""Networks of NeuroPBR: encoders, cross-view fusion, decoder, discriminators, and the generators made of them."""

if __name__ == "models":
    from bare_names import alias

    alias(__name__)
