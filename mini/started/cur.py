import sys,re
for f in sys.argv[1:]:
    out=[]; 
    for l in open(f):
        m=re.match(r"(\d+) seam (\S+) mean (\S+) kept ([\d.]+).*drift \{'all': ([\d.]+), 'ground': ([\d.]+), 'subject': ([\d.]+)",l)
        if m: out.append(m.groups())
    a=[float(x[4]) for x in out[1:]]
    print(f,'mean drift',round(sum(a)/max(len(a),1),2),'seam',out[-1][2] if out else ''); print('  ',' | '.join(f'{n} {al} {g} {s} k{k}' for n,_,_,k,al,g,s in out))
