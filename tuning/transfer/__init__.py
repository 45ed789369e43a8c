"""Transfer between tasks: is a task better off trained together with others than alone?"""
