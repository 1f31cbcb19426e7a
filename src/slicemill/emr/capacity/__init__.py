"""What clusters are made of: releases, instance types, shapes."""
