-- {channel} is a quoted identifier: LISTEN takes no parameters.
LISTEN {channel};
