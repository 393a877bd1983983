"""A folder for each lab, and one for what several labs share; `labsupport.course` finds them."""
