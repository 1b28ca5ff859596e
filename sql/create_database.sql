-- {name} is a quoted identifier: CREATE DATABASE takes no parameters.
CREATE DATABASE {name};
