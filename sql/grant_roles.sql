-- What each role may do, as the migrations say it; returns the roles that are missing.
SELECT role_name FROM grant_foreshard_roles() AS role_name;
