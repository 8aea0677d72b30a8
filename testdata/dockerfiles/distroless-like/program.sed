s/aft/stern/
p
