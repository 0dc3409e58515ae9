import json,sys
for f in sys.argv[1:]:
    d=json.load(open(f))
    for n,rows in d['rows'].items():
        dr=[100*sum(r['drift'][k] for k in ('brightness','contrast','saturation'))/3 for r in rows]
        at=lambda i: dr[i-1] if len(dr)>=i else float('nan')
        m=sum(dr[1:])/len(dr[1:])
        se={k:100*sum(r['seams'][k] for r in rows[1:])/len(rows[1:]) for k in rows[-1]['seams']}
        kept=[r['kept'] for r in rows]
        print(f"{n:26} drift 6/8/12/20 {at(6):.2f} {at(8):.2f} {at(12):.2f} {at(20):.2f} mean {m:.2f} kept20 {kept[-1]:.2f} mean {sum(kept[1:])/len(kept[1:]):.2f} seams "+' / '.join(f'{v:.2f}' for v in se.values())+'  n=%d'%len(rows))
