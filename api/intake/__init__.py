"""One module per telephony dialect: how each platform hands a recording over."""
